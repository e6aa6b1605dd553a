// The npm package soap calls HIPMessageServer by the WSDL of the endpoint and tells what it heard: {"answer"} or {"fault"} a line.
// Argument: {wsdl, version, names: [action, message], result, calls: [[action, message]]}.
import soap from 'soap';

const { wsdl, version, names, result, calls } = JSON.parse(process.argv[2]);
const client = await soap.createClientAsync(wsdl, { forceSoap12Headers: version === '1.2', disableCache: true });
for (const [action, message] of calls) {
  try {
    const [heard] = await client.HIPMessageServerAsync({ [names[0]]: action, [names[1]]: message });
    const answer = heard[result]?.$value ?? heard[result] ?? heard;
    console.log(JSON.stringify({ answer }));
  } catch (error) {
    console.log(JSON.stringify({ fault: String(error.message).slice(0, 500) }));
  }
}
