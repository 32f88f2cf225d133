/** Options that several commands have. */
import { Option } from 'commander';
import { ShiftvolError } from '../errors.ts';

export function projectOption(): Option {
  return new Option('--project <name>', 'the runtime’s project (default: as configured)');
}

export function idBaseOption(): Option {
  return new Option('--id-base <id>', 'first id on the volume’s file system (default: 0)').argParser(text => {
    if (/^\d{1,10}$/.test(text)) return Number(text);
    throw new ShiftvolError('SV_USAGE', `Cannot read --id-base ${JSON.stringify(text)}: accepted is a whole number`, {
      field: '--id-base',
    });
  });
}
