import { connectorContract } from './contract.ts';
import { nfsService } from './services/nfs.ts';

connectorContract('nfs, raw', nfsService('raw'));
connectorContract('nfs, qcow2', nfsService('qcow2'), { growsInUse: false });
