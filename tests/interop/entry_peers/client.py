"""SMART backend services by authlib: a token by private_key_jwt (RS384), and a resource posted with it. One JSON argument, a JSON line."""

import json
import sys
import time

from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT

asked = json.loads(sys.argv[1])
url = f"{asked['base']}/token"
session = OAuth2Session(asked["client"], asked["key"], token_endpoint_auth_method="private_key_jwt", scope=asked["scope"])
session.register_client_auth_method(PrivateKeyJWT(url, {"exp": int(time.time()) + 240}, {"kid": asked["kid"]}, asked["algorithm"]))
session.trust_env, session.verify = False, asked["ca"]
token = session.fetch_token(url, grant_type="client_credentials")
answer = session.post(
    f"{asked['base']}/{asked['resource']['resourceType']}", json=asked["resource"], headers={"Content-Type": "application/fhir+json"}
)
print(json.dumps({"scope": token["scope"], "lifetime": token["expires_in"], "status": answer.status_code}))
