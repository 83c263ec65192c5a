//! One replica as the layers above use it: on real files, and on a simulated disk that is cut off,
//! fills up and fails.

mod answers;
mod catch_up;
mod compaction;
mod crash;
mod descriptors;
mod faults;
mod fronts;
mod full_disk;
mod losses;
mod made;
mod members;
mod objects;
mod reads;
mod scrub;
mod space;
mod stops;
mod support;
mod switchboard;
mod times;

base::fix_chance!();
