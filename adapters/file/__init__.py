"""Files: a watched folder, here or on another machine, whose files become messages; messages written as files."""
