<?php
// A SOAP server by PHP's SoapServer, run by its own web server; it writes what it has heard to a file, a line each.
ini_set('soap.wsdl_cache_enabled', '0');

class Exchange
{
    public function Exchange($parameters)
    {
        file_put_contents(getenv('HEARD'), json_encode(['action' => $parameters->action, 'message' => $parameters->message]) . "\n", FILE_APPEND);
        if (str_starts_with($parameters->action, 'refuse')) {
            throw new SoapFault(getenv('VERSION') === '1.2' ? 'Sender' : 'Client', 'as asked');
        }
        if (str_starts_with($parameters->action, 'locked')) {
            throw new SoapFault(getenv('VERSION') === '1.2' ? 'Sender' : 'Client.Locked', 'as asked', null, null, 'Locked');
        }
        return ['payload' => 'taken'];
    }
}

$server = new SoapServer(getenv('WSDL'), ['soap_version' => getenv('VERSION') === '1.2' ? SOAP_1_2 : SOAP_1_1]);
$server->setClass('Exchange');
$server->handle();
