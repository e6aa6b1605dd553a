"""The destination ``soap``. A call is built in a thread, sent over Meridian's HTTP client, and its reply is read in a thread.

pinned        the WSDL in the site, and what zeep makes of it
template      what is said, with places for the message's values         (pure)
content       those values; the content whole, from its file
request       body, headers, attachments, signature: one request
packaging     a request on the wire
reply         what a reply means; answer_paths: finding things in it
destination   the life of calls
"""
