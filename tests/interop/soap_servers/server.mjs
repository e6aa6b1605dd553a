// A SOAP server by npm soap. It says what it has heard; what it does is in the action: the word before the first dash.
import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import soap from 'soap';

const asked = JSON.parse(process.argv[2]);
const say = (what) => process.stdout.write(JSON.stringify(what) + '\n');
const seen = new Set();

const fault = (code) => asked.version === '1.2'
  ? { Fault: { Code: { Value: `soap:${code === 'Client' ? 'Sender' : 'Receiver'}` }, Reason: { Text: 'as asked' }, statusCode: 500 } }
  : { Fault: { faultcode: `soap:${code}`, faultstring: 'as asked', statusCode: 500 } };

function exchange(args, callback, headers, request, response) {
  const [word] = args.action.split('-');
  const again = seen.has(args.action);
  seen.add(args.action);
  say({ action: args.action, message: args.message, id: headers?.MessageID ?? null, peer: request.socket.getPeerCertificate?.()?.subject?.CN ?? null });
  if (word === 'refuse') { throw fault('Client'); }
  if (word === 'busy' && !again) { throw fault('Server'); }
  if (word === 'drop' && !again) { request.socket.destroy(); return; }
  if (word === 'slow' && !again) { return; } // never
  if (word === 'html' && !again) { response.writeHead(502, { 'Content-Type': 'text/html' }); response.end('<html>Bad Gateway'); return; }
  const code = word === 'wrong' ? 'AE' : 'AA';
  callback(null, { payload: `<MCCI_IN000002UV01 xmlns="urn:hl7-org:v3"><acknowledgement typeCode="${code}"/></MCCI_IN000002UV01>` });
}

const server = asked.tls
  ? https.createServer({ key: fs.readFileSync(`${asked.tls}/node.key`), cert: fs.readFileSync(`${asked.tls}/node.pem`), ca: fs.readFileSync(`${asked.tls}/ca.pem`), requestCert: true, rejectUnauthorized: true })
  : http.createServer();
server.listen(asked.port, '127.0.0.1', () => {
  const service = { ExchangeService: { [asked.version === '1.2' ? 'Soap12' : 'Soap11']: { Exchange: exchange } } };
  soap.listen(server, { path: '/exchange', services: service, xml: fs.readFileSync(asked.wsdl, 'utf8'), forceSoap12Headers: asked.version === '1.2', callback: () => say('ready') });
});
process.stdin.on('end', () => process.exit(0)).resume();
