<?php
// PHP's SoapClient calls HIPMessageServer by the WSDL of the endpoint and tells what it heard: {"answer"} or {"fault"} a line.
// Argument: {wsdl, version, rpc, names: [action, message], result, calls: [[action, message]]}.
$asked = json_decode(end($argv), true);
$options = ['soap_version' => $asked['version'] === '1.2' ? SOAP_1_2 : SOAP_1_1, 'cache_wsdl' => WSDL_CACHE_NONE, 'exceptions' => true];
$client = new SoapClient($asked['wsdl'], $options);
foreach ($asked['calls'] as [$action, $message]) {
    try {
        if ($asked['rpc']) {
            $heard = $client->HIPMessageServer($action, $message);
        } else {
            $heard = $client->HIPMessageServer([$asked['names'][0] => $action, $asked['names'][1] => $message])->{$asked['result']};
        }
        echo json_encode(['answer' => $heard], JSON_UNESCAPED_UNICODE), "\n";
    } catch (SoapFault $fault) {
        echo json_encode(['fault' => $fault->getMessage()], JSON_UNESCAPED_UNICODE), "\n";
    }
}
