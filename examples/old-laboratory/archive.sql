-- Where the channel notes what was sent.
CREATE TABLE order_state (source TEXT, order_no TEXT, state TEXT, reported_at TEXT, PRIMARY KEY (source, order_no));
CREATE TABLE result_log (order_no TEXT, line INTEGER, test TEXT, value TEXT, message TEXT);
