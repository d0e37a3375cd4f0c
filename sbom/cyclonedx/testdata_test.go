package cyclonedx_test

// buildroot has the form of what Buildroot makes of the output of show-info.
const buildroot = `{
 "bomFormat": "CycloneDX", "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json", "specVersion": "1.6",
 "metadata": {"component": {"bom-ref": "example", "name": "example", "type": "firmware", "version": "2025.02"},
  "tools": {"components": [{"type": "application", "name": "generator", "version": "2025.02"}]}},
 "components": [
  {"bom-ref": "shell", "type": "library", "name": "shell", "version": "5.2", "cpe": "cpe:2.3:a:example:shell:5.2:*:*:*:*:*:*:*",
   "licenses": [{"license": {"id": "GPL-2.0"}}, {"license": {"name": "LGPL-2.1+ or MIT"}}, {"license": {"name": "Vendored (probably missing)"}}],
   "externalReferences": [{"type": "source-distribution", "url": "https://example.com/shell-5.2.tar.gz",
     "hashes": [{"alg": "SHA-256", "content": "dd00000000000000000000000000000000000000000000000000000000000000"}]},
    {"type": "vcs", "url": "https://example.com/shell.git", "comment": "git repository"}],
   "pedigree": {"patches": [{"type": "unofficial", "diff": {"text": {"content": "--- a"}},
     "resolves": [{"type": "security", "id": "CVE-2022-3715", "name": "CVE-2022-3715"}]}]},
   "properties": [{"name": "BR_TYPE", "value": "target"}]},
  {"bom-ref": "host-mktool", "type": "library", "name": "mktool", "version": "1", "licenses": [{"license": {"id": "MIT"}}],
   "properties": [{"name": "BR_TYPE", "value": "host"}]},
  {"bom-ref": "skeleton", "type": "library", "name": "skeleton", "properties": [{"name": "BR_TYPE", "value": "target"}]}],
 "dependencies": [
  {"ref": "example", "dependsOn": ["shell"]}, {"ref": "shell", "dependsOn": ["host-mktool", "skeleton"]}, {"ref": "skeleton", "dependsOn": ["lost"]}],
 "vulnerabilities": [
  {"id": "CVE-2022-3715", "source": {"name": "NVD", "url": "https://example.com/CVE-2022-3715"},
   "analysis": {"state": "resolved_with_pedigree", "detail": "The CVE 'CVE-2022-3715' has been marked as ignored by Buildroot"}, "affects": [{"ref": "shell"}]},
  {"id": "CVE-2019-9924", "analysis": {"state": "in_triage", "detail": "The CVE 'CVE-2019-9924' has been marked as ignored by Buildroot"}, "affects": [{"ref": "shell"}, {"ref": "lost"}]}]
}`
