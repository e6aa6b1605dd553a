// Calls a service as asked (url, version, calls = [[operation, arguments], …], attachment) and says each answer, or fault, as a line.
import soap from "soap";

const asked = JSON.parse(process.argv[2]);
const options = { forceSoap12Headers: asked.version === "1.2", disableCache: true };
const client = await soap.createClientAsync(`${asked.url}?wsdl`, options);
const wsa = "http://www.w3.org/2005/08/addressing";
let number = 0;
for (const [operation, args] of asked.calls) {
  client.clearSoapHeaders();
  if (asked.action) {
    client.addSoapHeader(`<wsa:Action xmlns:wsa="${wsa}">${asked.action}</wsa:Action>`);
    client.addSoapHeader(`<wsa:MessageID xmlns:wsa="${wsa}">urn:uuid:js-${++number}</wsa:MessageID>`);
  }
  const more = {};
  if (asked.attachment) {
    args.report = { $xml: '<xop:Include xmlns:xop="http://www.w3.org/2004/08/xop/include" href="cid:report@js"/>' };
    more.forceMTOM = true;
    more.attachments = [{ mimetype: "application/octet-stream", contentId: "report@js", name: "report", body: Buffer.from(asked.attachment, "base64") }];
  }
  try {
    const [said, , header] = await client[`${operation}Async`](args, more);
    console.log(JSON.stringify({ said, header }));
  } catch (error) {
    const fault = error.root?.Envelope?.Body?.Fault;
    console.log(JSON.stringify({ fault: fault ?? String(error), status: error.response?.status }));
  }
}
