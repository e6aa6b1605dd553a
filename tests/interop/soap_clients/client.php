<?php // Calls a service as asked (JSON: url, version, gzip, calls = [[operation, arguments], …]) and says each answer, or fault, as a line.
$asked = json_decode($argv[1], true);
$options = ['soap_version' => $asked['version'] === '1.2' ? SOAP_1_2 : SOAP_1_1, 'cache_wsdl' => WSDL_CACHE_NONE, 'exceptions' => true, 'keep_alive' => true];
if ($asked['gzip']) {
    $options['compression'] = SOAP_COMPRESSION_ACCEPT | SOAP_COMPRESSION_GZIP | 5;
}
$client = new SoapClient($asked['url'] . '?wsdl', $options);
foreach ($asked['calls'] as [$operation, $arguments]) {
    if (isset($arguments['report'])) {
        $arguments['report'] = base64_decode($arguments['report']); // it encodes by itself
    }
    try {
        $said = array_is_list($arguments) ? $client->__soapCall($operation, $arguments) : $client->$operation($arguments);
        echo json_encode(['said' => $said]), "\n";
    } catch (SoapFault $fault) {
        echo json_encode(['fault' => $fault->faultcode, 'text' => $fault->faultstring]), "\n";
    }
}
