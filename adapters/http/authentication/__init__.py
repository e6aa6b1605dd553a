"""Who may post: bearer tokens and API keys, user and password, signatures of the body.

options      what a channel file may say
credentials  tokens and passwords                    (pure)
schemes      how a signature is made, and where it is (pure)
signatures   signatures of what comes                (pure)
"""
