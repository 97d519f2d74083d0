//! The pages of a column of a Parquet file, looked at before the parquet crate allocates by what they say.

use parquet::basic::Encoding;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::ParquetError;

type Result<T> = std::result::Result<T, ParquetError>;

/// Dictionaries are no longer than their bytes, and values are encoded in ways whose lengths need no trust.
pub struct Checked<P>(pub P);

impl<P: PageReader> PageReader for Checked<P> {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        self.0.get_next_page()?.map(checked).transpose()
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.0.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.0.skip_next_page()
    }

    fn supports_deferred_dictionary(&self) -> bool {
        self.0.supports_deferred_dictionary()
    }

    fn take_deferred_dictionary(&mut self) -> Result<Option<Page>> {
        self.0.take_deferred_dictionary()?.map(checked).transpose()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.0.at_record_boundary()
    }
}

impl<P: PageReader> Iterator for Checked<P> {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

fn checked(page: Page) -> Result<Page> {
    if matches!(page, Page::DictionaryPage { .. }) && page.num_values() as usize > page.buffer().len() {
        return Err(ParquetError::General("a dictionary is longer than its bytes".to_owned()));
    }
    match page.encoding() {
        Encoding::PLAIN | Encoding::PLAIN_DICTIONARY | Encoding::RLE_DICTIONARY => Ok(page),
        other => Err(ParquetError::General(format!("values encoded as {other} are not read"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dictionary_is_not_longer_than_its_bytes() {
        let page = |num_values, encoding| Page::DictionaryPage {
            buf: vec![0; 8].into(),
            num_values,
            encoding,
            is_sorted: false,
        };
        assert!(checked(page(2, Encoding::PLAIN)).is_ok());
        assert!(checked(page(u32::MAX, Encoding::PLAIN)).is_err());
        assert!(checked(page(2, Encoding::DELTA_BYTE_ARRAY)).is_err());
    }
}
