// An outside authorization server: oidc-provider, with a client that has tokens, and one that asks about them.
// Says its port, then for each line that it reads a new token; a line with a token revokes that one.
import { createInterface } from 'node:readline';
import { Provider } from 'oidc-provider';

const asked = JSON.parse(process.argv[2]);
const scope = 'system/Observation.c';
const provider = new Provider(`http://127.0.0.1:${asked.port}`, {
  clients: [
    ...asked.clients.map((name) => ({ client_id: name, client_secret: 'secret', redirect_uris: [], response_types: [], grant_types: ['client_credentials'], scope })),
    { client_id: 'meridian', client_secret: asked.secret, redirect_uris: [], response_types: [], grant_types: [] },
  ],
  scopes: [scope],
  ttl: { ClientCredentials: 300 },
  features: {
    clientCredentials: { enabled: true }, introspection: { enabled: true, allowedPolicy: async () => true },
    revocation: { enabled: true, allowedPolicy: async () => true }, devInteractions: { enabled: false },
  },
});
const ask = async (path, client, form) => {
  const headers = { authorization: `Basic ${btoa(`${client}:secret`)}`, 'content-type': 'application/x-www-form-urlencoded' };
  return fetch(`http://127.0.0.1:${asked.port}${path}`, { method: 'POST', headers, body: new URLSearchParams(form) });
};
let questions = 0;
provider.use(async (context, next) => { if (context.path === '/token/introspection') { questions += 1; } await next(); });
const server = provider.listen(asked.port, '127.0.0.1', () => console.log(JSON.stringify({ port: asked.port })));
for await (const line of createInterface({ input: process.stdin })) {
  const { client, revoke, count } = JSON.parse(line);
  if (count) {
    console.log(JSON.stringify({ questions }));
  } else if (revoke) {
    console.log(JSON.stringify({ revoked: (await ask('/token/revocation', client, { token: revoke })).status }));
  } else {
    console.log(JSON.stringify(await (await ask('/token', client, { grant_type: 'client_credentials', scope })).json()));
  }
}
server.close();
process.exit(0);
