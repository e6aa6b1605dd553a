"""SOAP 1.1 and 1.2 over HTTP.

service    what an endpoint's service is    (pure)
"""
