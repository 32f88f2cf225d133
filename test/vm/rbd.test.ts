import { connectorContract } from './contract.ts';
import { cephService } from './services/ceph.ts';

connectorContract('RBD, by the kernel', cephService('layering'));
connectorContract('RBD, by rbd-nbd', cephService('layering,exclusive-lock,journaling'));
