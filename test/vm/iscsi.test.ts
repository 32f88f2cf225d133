import { connectorContract } from './contract.ts';
import { iscsiService } from './services/iscsi.ts';

connectorContract('iSCSI with CHAP', iscsiService({ portals: 1, chap: true }));
