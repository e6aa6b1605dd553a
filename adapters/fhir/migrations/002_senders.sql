-- Who sent each version: the proven party, '' where none was proven (and for what was there before this column).
ALTER TABLE resource ADD COLUMN sender TEXT NOT NULL DEFAULT '';
ALTER TABLE history ADD COLUMN sender TEXT NOT NULL DEFAULT '';
