// Libraries that webhook senders use sign and post: @octokit/webhooks-methods (GitHub), standardwebhooks. Argument: {scheme, url, secret,
// bodies, alter}; for each body {"status"} a line. `alter` changes the body after it is signed.
import { sign } from '@octokit/webhooks-methods';
import { Webhook } from 'standardwebhooks';

const { scheme, url, secret, bodies, alter } = JSON.parse(process.argv[2]);
let number = 0;
for (const body of bodies) {
  const id = `msg_${++number}`;
  const at = new Date();
  const headers = scheme === 'github'
    ? { 'x-hub-signature-256': await sign(secret, body), 'x-github-delivery': id, 'x-github-event': 'order' }
    : { 'webhook-id': id, 'webhook-timestamp': String(Math.floor(at / 1000)), 'webhook-signature': new Webhook(secret).sign(id, at, body) };
  const answer = await fetch(url, { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body: body + (alter ?? '') });
  await answer.text();
  console.log(JSON.stringify({ status: answer.status }));
}
process.exit(0);
