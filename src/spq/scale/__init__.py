"""What runs on several machines: encoding jobs. May import all below `api` but `training`; only `cli` imports it."""
