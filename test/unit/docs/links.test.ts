import assert from 'node:assert/strict';
import { existsSync, globSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { test } from 'node:test';
import { anchorsOf, linksOf, ROOT, readDocument } from '../../rig/markdown.ts';

const DOCUMENTS = globSync('**/*.md', { cwd: ROOT, exclude: ['node_modules/**', 'dist/**'] });

test('there are documents', () => {
  for (const path of ['README.md', 'deploy/README.md', 'deploy/helm/shiftvol/README.md'])
    assert.ok(DOCUMENTS.includes(path), path);
});

for (const path of DOCUMENTS)
  test(`every link of ${path} to a file or a heading of ours leads there`, () => {
    const dead = linksOf(readDocument(path))
      .filter(to => !/^[a-z]+:/.test(to))
      .filter(to => !leads(path, to));

    assert.deepEqual(dead, []);
  });

test('a heading is named as a forge names it', () => {
  const text = '# With `code`, and [a link](to.md)!\n## Same\n## Same\n```sh\n# no heading\n```\n<a id="own"></a>\n';

  assert.deepEqual([...anchorsOf(text)].toSorted(), ['own', 'same', 'same-1', 'with-code-and-a-link']);
});

function leads(from: string, to: string): boolean {
  const [file = '', anchor] = to.split('#');
  const path = file === '' ? from : normalize(join(dirname(from), file));
  if (path.startsWith('..') || !existsSync(join(ROOT, path))) return false;
  return anchor === undefined || anchorsOf(readDocument(path)).has(anchor);
}
