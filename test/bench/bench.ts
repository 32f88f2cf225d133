import type { Options } from './options.ts';
import type { Pool } from './pool.ts';
import type { Row } from './report.ts';
import type { Workspace } from './workspace.ts';

/** What every case is given. */
export type Bench = { readonly options: Options; readonly workspace: Workspace; readonly pool: Pool };
export type Case = (bench: Bench) => Promise<readonly Row[]>;
