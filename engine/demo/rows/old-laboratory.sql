-- The old laboratory's tables, as its vendor made them twenty years ago; names are in GBK, whatever the database thinks.
CREATE TABLE orders (
    order_no VARCHAR(20) PRIMARY KEY,
    patient_no VARCHAR(20) NOT NULL,
    name VARCHAR(40),
    sex CHAR(1),
    born CHAR(8),
    test_group VARCHAR(40),
    taken_at DATETIME,
    reported_at DATETIME,
    state CHAR(1),
    changed DATETIME NOT NULL
);
CREATE INDEX orders_changed ON orders (changed, order_no);
CREATE TABLE results (
    order_no VARCHAR(20) NOT NULL REFERENCES orders,
    line INTEGER NOT NULL,
    test VARCHAR(10),
    test_name VARCHAR(40),
    value VARCHAR(20),
    unit VARCHAR(20),
    low VARCHAR(10),
    high VARCHAR(10),
    PRIMARY KEY (order_no, line)
);
