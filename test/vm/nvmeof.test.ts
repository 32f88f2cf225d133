import { connectorContract } from './contract.ts';
import { nvmetService } from './services/nvmet.ts';

connectorContract('NVMe over TCP, by uuid', nvmetService('uuid'));
connectorContract('NVMe over TCP, by number', nvmetService('number'));
