"""The DICOM upper layer (PS3.8) and message exchange (PS3.7) for both roles, on Twisted.

pdu          bytes <-> A-ASSOCIATE, A-RELEASE and A-ABORT PDUs               pure
framing      cuts PDUs and fragments of P-DATA out of any chunking           pure
states       the state machine of PS3.8 table 9-10                           pure
negotiation  which presentation contexts an acceptor takes                   pure
dimse        command sets (PS3.7 annex E)                                    pure
messages     fragments <-> command sets with their data sets                 pure
association  all of these put together: events in, steps out                 pure
protocol     one association on a Twisted transport, with its timers
exchange     requests and responses over an association, both ways
acceptor, requestor   the two ways that an association begins
"""
