"""The destination `database`: parameterized statements, upserts and procedures with a message's values.

sql           what the text of a statement binds                                 (pure)
conversions   text of a message -> values of a database                          (pure)
binding       one parameter: a template, a type, a zone                          (pure)
options       what a channel file may say, and what is wrong about it
compiled      a statement: when, over what, with which rows
upserts       INSERT that becomes an UPDATE, in the words of each database
outbox        the keys of what was applied, in the same transaction
applying      a group of messages in one transaction; one bad one is singled out
outcomes      what becomes of a message; errors sorted
answers       rows that a statement gives, as a record
destination   the life of deliveries
"""
