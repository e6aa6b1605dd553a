-- Who sent each version: the proven party, '' where none was proven (and for what was there before this column).
ALTER TABLE resource ADD COLUMN sender TEXT NOT NULL DEFAULT '';
ALTER TABLE history ADD COLUMN sender TEXT NOT NULL DEFAULT '';
-- What one party sent of a type, in the order of creation (the key is part of the index): a search that may see no more than that.
CREATE INDEX resource_by_sender ON resource (type, sender);
