import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pictures } from '../../../build/pictures.ts';
import { linksOf, readDocument } from '../../rig/markdown.ts';

const made = pictures();

for (const [path, text] of made)
  test(`${path} is what the newest result of the bench and the code say`, () => {
    assert.equal(readDocument(path), text, 'npm run pictures');
  });

test('README.md shows every picture, and each says in words what it shows', () => {
  const shown = linksOf(readDocument('README.md')).filter(to => to.endsWith('.svg'));
  const drawn = [...made.keys()].filter(path => path.endsWith('.svg'));

  assert.deepEqual(shown.toSorted(), drawn.toSorted());
  for (const path of drawn)
    assert.match(made.get(path) ?? '', /<title id="t">.+<\/title>\n<desc id="d">.{20,}<\/desc>/);
});

test('a picture needs nothing from elsewhere, and has colours for light and for dark', () => {
  for (const [path, text] of made) {
    if (!path.endsWith('.svg')) continue;
    assert.doesNotMatch(text.replace('xmlns="http://www.w3.org/2000/svg"', ''), /https?:|<script|@import|url\(|href/);
    assert.match(text, /prefers-color-scheme: dark/);
    assert.match(text, /<rect class="back"/);
  }
});
