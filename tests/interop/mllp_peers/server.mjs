// node-hl7-server answers by the beginning of the control id: AE and AR are refused so, DROP loses its connection the first time.
// Tells {"port"}, then for each message {"control_id", "family"} a line. Argument: {tls: {ca, cert, key}}.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const { Server } = createRequire(import.meta.url)('node-hl7-server');
const { tls } = JSON.parse(process.argv[2]);
const say = (said) => console.log(JSON.stringify(said));
const files = tls && Object.fromEntries(Object.entries(tls).map(([name, file]) => [name, readFileSync(file)]));
const dropped = new Set();
let newest;

const server = new Server({ bindAddress: '127.0.0.1', ...(files && { tls: { ...files, requestCert: true } }) });
const inbound = server.createInbound({ port: 0 }, async (request, response) => {
  const message = request.getMessage();
  const id = message.get('MSH.10').toString();
  say({ control_id: id, family: message.get('PID.5.1').toString() });
  if (id.startsWith('DROP') && !dropped.has(id)) {
    dropped.add(id);
    newest.destroy();
    return;
  }
  await response.sendResponse(id.startsWith('AE') ? 'AE' : id.startsWith('AR') ? 'AR' : 'AA');
});
inbound.on('client.connect', (socket) => { newest = socket; });
inbound.on('data.error', (error) => say({ error: error.message }));
inbound.once('listen', () => say({ port: inbound._socket.address().port }));
process.stdin.on('end', () => process.exit(0)).resume();
