// npm soap as a sender: says what it would put on the wire, secured as asked. xml-crypto as a verifier of what others have signed.
import { createRequire } from "node:module";
import { readFileSync, writeFileSync } from "node:fs";
const require = createRequire(import.meta.url);
const soap = require("soap");

const asked = JSON.parse(process.argv[2]);
const say = (what) => console.log(JSON.stringify(what));

const wsdl = `<definitions xmlns="http://schemas.xmlsoap.org/wsdl/" xmlns:soap="http://schemas.xmlsoap.org/wsdl/soap/"
  xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns:t="urn:lab" targetNamespace="urn:lab">
  <types><xs:schema targetNamespace="urn:lab" elementFormDefault="qualified">
    <xs:element name="Order"><xs:complexType><xs:sequence><xs:element name="id" type="xs:string"/></xs:sequence></xs:complexType></xs:element>
  </xs:schema></types>
  <message name="in"><part name="p" element="t:Order"/></message><message name="out"><part name="p" element="t:Order"/></message>
  <portType name="T"><operation name="Order"><input message="t:in"/><output message="t:out"/></operation></portType>
  <binding name="B" type="t:T"><soap:binding transport="http://schemas.xmlsoap.org/soap/http"/>
    <operation name="Order"><soap:operation soapAction="urn:lab:order"/><input><soap:body use="literal"/></input><output><soap:body use="literal"/></output></operation>
  </binding>
  <service name="S"><port name="P" binding="t:B"><soap:address location="http://127.0.0.1:9/"/></port></service>
</definitions>`;

function security() {
  const user = () => new soap.WSSecurity(asked.user, asked.password, { passwordType: asked.type, hasTimeStamp: asked.userTimestamp ?? true });
  const cert = () => new soap.WSSecurityCert(readFileSync(asked.key, "utf8"), readFileSync(asked.certificate, "utf8"), "", asked.options);
  if (asked.how === "user") return user();
  if (asked.how === "cert") return cert();
  return new soap.WSSecurityPlusCert(user(), cert());
}

async function send() {
  const file = `${asked.folder}/order.wsdl`;
  writeFileSync(file, wsdl);
  const client = await soap.createClientAsync(file, { forceSoap12Headers: asked.soap12 ?? false }, asked.endpoint);
  client.setSecurity(security());
  client.on("request", (xml) => say({ envelope: xml }));
  try {
    const [answer] = await client.OrderAsync({ id: asked.id ?? "17" });
    say({ answer });
  } catch (error) {
    say({ fault: error.root ? error.root.Envelope.Body.Fault : String(error.code ?? error.message), status: error.response?.status ?? 0 });
  }
}

function verify() {
  const { SignedXml } = require("xml-crypto");
  const { DOMParser } = require("@xmldom/xmldom");
  const document = new DOMParser().parseFromString(asked.envelope, "text/xml");
  const signature = document.getElementsByTagNameNS("http://www.w3.org/2000/09/xmldsig#", "Signature")[0];
  const checker = new SignedXml({ publicCert: readFileSync(asked.certificate, "utf8"), idMode: "wssecurity" });
  checker.loadSignature(signature);
  let right = false;
  try {
    right = checker.checkSignature(asked.envelope);
  } catch {
    right = false;
  }
  say({ right, references: right ? checker.getSignedReferences().length : 0 });
}

if (asked.how === "verify") verify();
else await send();
