"""The destination ``http``.

options      what a channel file may say
bodies       templates of a request's body                       (pure)
request      a parcel as a request                               (pure but for the file of a big body)
outcomes     what an answer means                                (pure)
grants       access tokens of OAuth 2.0 client credentials
destination  the life of deliveries
wording      a request as text, for channel tests                (pure)
"""
