"""`meridian demo`: a county hospital's morning, sent to real nodes. Sits on top of everything, as engine.cli does."""
