/** The services' MariaDB, on a socket alone, without the syncs that a database of record needs. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Processes } from './processes.ts';
import { type CloudSettings, paths } from './settings.ts';

const run = promisify(execFile);
const DATABASES = [
  'keystone',
  'placement',
  'glance',
  'cinder',
  'barbican',
  'nova_api',
  'nova_cell0',
  'nova_cell1',
] as const;
export type DatabaseName = (typeof DATABASES)[number];

export async function startDatabase(settings: CloudSettings, processes: Processes): Promise<void> {
  const { database, databaseSocket, dir } = paths(settings);
  if (!existsSync(join(database, 'mysql')))
    await run('mariadb-install-db', [
      '--no-defaults',
      `--datadir=${database}`,
      '--user=root',
      '--auth-root-authentication-method=normal',
      '--skip-test-db',
    ]);
  processes.start({
    name: 'mariadb',
    argv: [
      'mariadbd',
      '--no-defaults',
      `--datadir=${database}`,
      `--socket=${databaseSocket}`,
      `--pid-file=${join(dir, 'database.pid')}`,
      '--user=root',
      '--skip-networking',
      '--innodb-flush-log-at-trx-commit=0',
      '--innodb-flush-method=nosync',
      '--skip-innodb-doublewrite',
      '--innodb-buffer-pool-size=64M',
      '--performance-schema=off',
      '--max-connections=300',
    ],
  });
  await processes.until(
    'mariadb',
    () =>
      sql(settings, 'mysql', 'select 1').then(
        () => true,
        () => false,
      ),
    30_000,
  );
  for (const name of DATABASES)
    await sql(
      settings,
      'mysql',
      `create database if not exists ${name} character set utf8mb4 collate utf8mb4_general_ci`,
    );
}

/** Rows as the columns' texts by name; NULL is `NULL`. For looking at what the services keep, not for values from outside. */
export async function sql(
  settings: CloudSettings,
  database: DatabaseName | 'mysql',
  query: string,
): Promise<readonly Readonly<Record<string, string>>[]> {
  const { stdout } = await run('mariadb', [
    '--no-defaults',
    '-uroot',
    '-S',
    paths(settings).databaseSocket,
    '--batch',
    '-e',
    query,
    database,
  ]);
  const [head = '', ...rows] = stdout.split('\n').filter(line => line !== '');
  const names = head.split('\t');
  return rows.map(row => Object.fromEntries(row.split('\t').map((value, i) => [names[i] ?? '', value])));
}
