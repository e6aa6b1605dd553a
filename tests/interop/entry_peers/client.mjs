// SMART backend services by openid-client: finds the token endpoint, proves itself by private_key_jwt, with a client certificate where
// one is given, and posts a resource with the token. Says what it had, or which error.
import { createPrivateKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { request } from 'node:https';
import * as oauth from 'openid-client';

const asked = JSON.parse(process.argv[2]);

function fetchWith(tls) {
  return (url, { method, headers, body }) => new Promise((resolve, reject) => {
    const content = body === undefined || body === null ? undefined : Buffer.from(String(body));
    const sent = request(url, { method, headers: { ...Object.fromEntries(new Headers(headers)), 'content-length': content?.length ?? 0 }, ...tls }, (got) => {
      const parts = [];
      got.on('data', (part) => parts.push(part));
      got.on('end', () => resolve(new Response(Buffer.concat(parts), { status: got.statusCode, headers: got.headers })));
    });
    sent.on('error', reject);
    sent.end(content);
  });
}

const shown = (folder) => ({ ca: readFileSync(asked.ca), agent: false, ...(folder ? { cert: readFileSync(`${folder}/node.pem`), key: readFileSync(`${folder}/node.key`) } : {}) });
const kinds = { ES384: { name: 'ECDSA', namedCurve: 'P-384' }, RS384: { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-384' } };
const der = createPrivateKey(asked.key).export({ format: 'der', type: 'pkcs8' });
const key = await crypto.subtle.importKey('pkcs8', der, kinds[asked.algorithm], false, ['sign']);

try {
  const proof = oauth.PrivateKeyJwt({ key, kid: asked.kid });
  const options = { [oauth.customFetch]: fetchWith(shown(asked.certificate)) };
  const config = await oauth.discovery(new URL(`${asked.base}/.well-known/smart-configuration`), asked.client, undefined, proof, options);
  const tokens = await oauth.clientCredentialsGrant(config, { scope: asked.scope });
  const again = new oauth.Configuration(config.serverMetadata(), asked.client, undefined, proof);
  again[oauth.customFetch] = fetchWith(shown(asked.shown));
  const body = JSON.stringify(asked.resource);
  const url = new URL(`${asked.base}/${asked.resource.resourceType}`);
  const answer = await oauth.fetchProtectedResource(again, tokens.access_token, url, 'POST', body, new Headers({ 'content-type': 'application/fhir+json' }))
    .catch((error) => ({ status: error.status, text: async () => error.cause?.map?.((one) => one.parameters.error).join() ?? String(error) }));
  console.log(JSON.stringify({ scope: tokens.scope, lifetime: tokens.expires_in, status: answer.status, said: await answer.text() }));
} catch (error) {
  console.log(JSON.stringify({ error: error.error ?? error.code ?? String(error), said: error.error_description ?? String(error.cause ?? '') }));
}
