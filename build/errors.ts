/** Writes deploy/ERRORS.md, what `helpUrl` leads to, from the table of codes: `node build/errors.ts`. A test says whether it is as it should be. */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { CODES, EXIT } from '../src/errors.ts';

export const ERRORS_FILE = fileURLToPath(new URL('../deploy/ERRORS.md', import.meta.url));

const KINDS = {
  [EXIT.usage]: 'What was asked is wrong',
  [EXIT.notFound]: 'Something is not there',
  [EXIT.conflict]: 'Something stands in the way',
  [EXIT.failed]: 'It failed',
  [EXIT.host]: 'This host cannot',
} as const;

const HEAD = `# Errors

Each error has a code. It is on the bus (\`payload.error.code\`), in \`--json\` (\`error.code\`, with \`error.help\` leading here), in the log, in traces
(\`error.type\`), in the header \`x-shiftvol-code\` of a dead letter, and with \`-v\` at the end of the command line's own line. A code is never used for
something else. The error's own text and remedy are closer to the case than what stands here.

*Again*: whether the agent tries a notification again that failed so, a few times, before it goes to the dead letters.

<!-- Written by "node build/errors.ts" from src/error-codes.ts. -->
`;

export function errorReference(): string {
  const parts = Object.entries(KINDS).map(([exit, title]) => {
    const codes = Object.entries(CODES).filter(([, facts]) => facts.exit === Number(exit));
    return `\n## ${title}: exit status ${exit}\n${codes.map(entry).join('')}`;
  });
  return `${HEAD}${parts.join('')}`;
}

function entry([code, { means, todo, http, retry }]: [string, (typeof CODES)[keyof typeof CODES]]): string {
  const facts = `HTTP status ${http} on the agent's socket. Again: ${retry ? 'yes' : 'no'}.`;
  return `\n### <a id="${code.toLowerCase()}"></a>${code}\n${sentence(means)} ${facts}\n\nWhat to do: ${todo}.\n`;
}

const sentence = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;

if (import.meta.main) writeFileSync(ERRORS_FILE, errorReference());
