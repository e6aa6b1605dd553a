// Libraries that webhook receivers use verify what is posted to them: @octokit/webhooks (its Node middleware), standardwebhooks. Argument:
// {scheme, secret}; says {"port"}, then for each good request {"id", "body"}, for a bad one {"refused"}. Ends with its input.
import { createServer } from 'node:http';
import { Webhooks, createNodeMiddleware } from '@octokit/webhooks';
import { Webhook } from 'standardwebhooks';

const { scheme, secret } = JSON.parse(process.argv[2]);
const say = (said) => console.log(JSON.stringify(said));
let handle;
if (scheme === 'github') {
  const hooks = new Webhooks({ secret, log: { debug() {}, info() {}, warn() {}, error() {} } });
  hooks.onAny(({ id, payload }) => say({ id, body: JSON.stringify(payload) }));
  hooks.onError((error) => say({ refused: error.message }));
  handle = createNodeMiddleware(hooks, { path: '/hook' });
} else {
  const hook = new Webhook(secret);
  handle = async (request, response) => {
    const parts = [];
    for await (const part of request) { parts.push(part); }
    const body = Buffer.concat(parts).toString();
    try {
      hook.verify(body, request.headers);
      say({ id: request.headers['webhook-id'], body });
      response.writeHead(204).end();
    } catch (error) {
      say({ refused: error.message });
      response.writeHead(400).end();
    }
  };
}
const server = createServer(handle);
server.listen(0, '127.0.0.1', () => say({ port: server.address().port }));
process.stdin.on('end', () => process.exit(0)).resume();
