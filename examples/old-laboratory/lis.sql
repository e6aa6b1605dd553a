-- The tables of the old laboratory system, and one morning in them.
CREATE TABLE orders (order_no TEXT PRIMARY KEY, patient_no TEXT, id_card TEXT, name TEXT, sex TEXT, born TEXT, phone TEXT, doctor TEXT,
                     test_group TEXT, ordered_at TIMESTAMP, taken_at TIMESTAMP, tube TEXT, reported_at TIMESTAMP, state TEXT, changed TIMESTAMP);
CREATE TABLE results (order_no TEXT, line INTEGER, test TEXT, test_name TEXT, value TEXT, unit TEXT, low DECIMAL(8,2), high DECIMAL(8,2),
                      flag TEXT, note TEXT, PRIMARY KEY (order_no, line));
CREATE INDEX orders_changed ON orders (changed, order_no);
INSERT INTO orders VALUES ('A1001', 'P1', '110101199003070097', '张三', '男', '19900307', '13800000001', 'D07', 'BIO', '2026-01-31 08:00:00',
                           '2026-01-31 08:30:00', 'T1001', '2026-01-31 10:05:00', 'F', '2026-01-31 10:05:01');
INSERT INTO results VALUES ('A1001', 1, 'GLU', '葡萄糖', '5.10', 'mmol/L', 3.9, 6.1, NULL, NULL),
                           ('A1001', 2, 'K', '钾', '<2.00', 'mmol/L', 3.5, 5.3, 'L', '已复查'),
                           ('A1001', 3, 'HBSAG', '乙肝表面抗原', '阴性', NULL, NULL, NULL, NULL, NULL);
