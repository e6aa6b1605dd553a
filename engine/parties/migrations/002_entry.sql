-- What a party proves itself by over HTTP, and its rules there.

ALTER TABLE party ADD COLUMN keys TEXT NOT NULL DEFAULT '[]';                  -- JSON list of JWK, each as text
ALTER TABLE party ADD COLUMN patients TEXT NOT NULL DEFAULT '[]';              -- JSON list: Patient/ID or SYSTEM|VALUE; none: all
ALTER TABLE party ADD COLUMN requests_per_minute INTEGER NOT NULL DEFAULT 0;   -- 0: as many as it wants
