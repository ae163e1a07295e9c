#![doc = "See `recorder_fuzz::targets`."]
#![no_main]

recorder_cargo_fuzz::try_target!("cgroup");
