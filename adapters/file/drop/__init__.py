"""An SFTP server of our own, where each party has a folder to put files into, and can do nothing else.

tries     how often an address may fail to log in       (pure)
folder    a party's folder: what its clients may do there
session   one client's requests, as asyncssh hands them over
server    the listener: who may come in, for how long, how many
place     all the folders together, as a place for files
"""
