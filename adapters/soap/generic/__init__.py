"""The endpoint ``soap``: any service, described by a WSDL of the site or by the one that is shipped.

wsdl        a WSDL with what it imports: served with right addresses, read for its operations    (pure, but for files)
responses   what is answered: templates and empty elements                                       (pure)
service     what an endpoint's service is, for this one                                          (pure)
options     what a channel file may say
"""
