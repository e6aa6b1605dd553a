"""The source `database`: polls a table by watermark or status, a SELECT, or a procedure."""
