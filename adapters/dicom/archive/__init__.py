"""The archive: keeps instances, knows the studies they belong to, answers for them (PS3.4 annex C) and says when a study is complete."""
