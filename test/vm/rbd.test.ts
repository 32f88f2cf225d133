import { connectorContract } from './contract.ts';
import { cephService } from './services/ceph.ts';

connectorContract('RBD, by the kernel', cephService('kernel'));
connectorContract('RBD, by rbd-nbd', cephService('nbd'));
