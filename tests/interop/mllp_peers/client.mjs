// node-hl7-client sends messages one after the other and tells each answer as it understood it: {"code", "control_id"} a line.
// A connection that cannot be had is {"lost": reason}. Argument: {host, port, tls: {ca, cert, key}, messages}; a message that begins with
// BHS is sent as a batch.
import { readFileSync } from 'node:fs';
import { Batch, Client, Message } from 'node-hl7-client';

const { host, port, tls, messages } = JSON.parse(process.argv[2]);
const end = (said) => { if (said) { console.log(JSON.stringify(said)); } process.exit(0); };

// Without a time limit, or without a second attempt, it keeps a lost connection to itself.
const limits = { connectionTimeout: 60000, maxConnectionAttempts: 2 };
const secure = tls && { tls: Object.fromEntries(Object.entries(tls).map(([name, file]) => [name, readFileSync(file)])) };
const client = new Client({ host, ...limits, ...secure });
const line = client.createConnection({ port, waitAck: true, maxConnectionAttempts: 2 }, (answer) => {
  const told = answer.getMessage();
  console.log(JSON.stringify({ code: told.get('MSA.1').toString(), control_id: told.get('MSA.2').toString() }));
  if (--due === 0) { next(); }
});
let due = 0;
const next = () => {
  if (!messages.length) { end(); }
  const text = messages.shift();
  due = text.match(/^MSH/gm).length;
  line.sendMessage(text.startsWith('BHS') ? new Batch({ text }) : new Message({ text }));
};
line.on('client.error', (error) => end({ lost: error.code ?? error.message }));
line.on('data.error', (error) => end({ lost: `unusable answer: ${error.message}` }));
line.once('connect', next);
