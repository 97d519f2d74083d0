//! What was made lately, and is often asked for again.

use std::rc::Rc;

/// How many are kept.
const KEPT: usize = 8;

pub struct Latest<K, V>(Vec<(K, Rc<V>)>);

impl<K: PartialEq, V> Latest<K, V> {
    pub const fn new() -> Self {
        Latest(Vec::new())
    }

    /// The value of `key`, made if it is not there. What fails is not kept.
    pub fn get<Q>(&mut self, key: &Q, make: impl FnOnce() -> Option<V>) -> Option<Rc<V>>
    where
        K: std::borrow::Borrow<Q>,
        Q: PartialEq + ToOwned<Owned = K> + ?Sized,
    {
        if let Some((_, value)) = self.0.iter().find(|(known, _)| known.borrow() == key) {
            return Some(Rc::clone(value));
        }
        let value = Rc::new(make()?);
        if self.0.len() == KEPT {
            self.0.remove(0);
        }
        self.0.push((key.to_owned(), Rc::clone(&value)));
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_made_once_until_eight_others_were_asked_for() {
        let mut latest = Latest::<usize, usize>::new();
        for key in 0..=KEPT {
            assert_eq!(latest.get(&key, || Some(10 * key)).as_deref(), Some(&(10 * key)));
        }
        assert_eq!(latest.get(&KEPT, || None).as_deref(), Some(&(10 * KEPT)));
        assert!(latest.get(&0, || None).is_none());
    }
}
