"""Uploads of terminals that were offline: ``POST [base]/$upload`` with one resource or Bundle on each line (ndjson).

asked      what a request asks for: whose journal, from which number on                         (pure)
lines      a stream of bytes cut into lines                                                     (pure)
contents   what one line is: its number, its content, its envelope                              (pure)
outcomes   what is said of a line, and of all of them                                           (pure)
report     the lines of the answer, in a file where there are many
book       which numbers of which terminal have been settled, on disk
journals   lines on their way to the store, of all uploads: how many at once, and what of them is in the book
taking     the lines of one upload, from their content to what is said of them
upload     one request
desk       the operation as the source sees it

A line is committed before it is acknowledged, and its number is in the book before the answer says so. The way there can be cut at any
point: `journals` says how the book and the store agree afterwards.
"""
