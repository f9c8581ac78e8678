//! A bitmap that can draw text without any font of the machine: the font comes with a crate.

use font8x8::UnicodeFonts;
use plotters::backend::BitMapBackend;
use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{BackendColor, BackendTextStyle, DrawingBackend, DrawingErrorKind};
use std::path::Path;

/// Dots in a glyph of the font, across and down.
const GLYPH: i32 = 8;
/// Dots of the picture for each of the font: as large as text in a book at the size that we draw.
const SCALE: i32 = 2;
/// Columns and lines that a letter takes.
const LETTER: i32 = GLYPH * SCALE;

/// A bitmap with letters.
pub struct Lettered<'a>(BitMapBackend<'a>);

impl<'a> Lettered<'a> {
    /// A bitmap of `size` that becomes the PNG file `path`.
    pub fn new(path: &'a Path, size: (u32, u32)) -> Self {
        Self(BitMapBackend::new(path, size))
    }

    fn draw_letter(
        &mut self,
        letter: char,
        at: (i32, i32),
        color: BackendColor,
    ) -> Result<(), DrawingErrorKind<<Self as DrawingBackend>::ErrorType>> {
        for (row, dots) in glyph(letter).into_iter().enumerate() {
            for bit in (0..GLYPH).filter(|bit| dots >> bit & 1 == 1) {
                let corner = (at.0 + bit * SCALE, at.1 + row as i32 * SCALE);
                for dot in 0..SCALE * SCALE {
                    self.0.draw_pixel((corner.0 + dot % SCALE, corner.1 + dot / SCALE), color)?;
                }
            }
        }
        Ok(())
    }
}

impl DrawingBackend for Lettered<'_> {
    type ErrorType = <BitMapBackend<'static> as DrawingBackend>::ErrorType;

    fn get_size(&self) -> (u32, u32) {
        self.0.get_size()
    }

    fn ensure_prepared(&mut self) -> Result<(), DrawingErrorKind<Self::ErrorType>> {
        self.0.ensure_prepared()
    }

    fn present(&mut self) -> Result<(), DrawingErrorKind<Self::ErrorType>> {
        self.0.present()
    }

    fn draw_pixel(&mut self, point: (i32, i32), color: BackendColor) -> Result<(), DrawingErrorKind<Self::ErrorType>> {
        self.0.draw_pixel(point, color)
    }

    fn draw_text<S: BackendTextStyle>(
        &mut self,
        text: &str,
        style: &S,
        at: (i32, i32),
    ) -> Result<(), DrawingErrorKind<Self::ErrorType>> {
        let width = text.chars().count() as i32 * LETTER;
        let x = match style.anchor().h_pos {
            HPos::Left => at.0,
            HPos::Right => at.0 - width,
            HPos::Center => at.0 - width / 2,
        };
        let y = match style.anchor().v_pos {
            VPos::Top => at.1,
            VPos::Center => at.1 - LETTER / 2,
            VPos::Bottom => at.1 - LETTER,
        };
        for (column, letter) in text.chars().enumerate() {
            self.draw_letter(letter, (x + column as i32 * LETTER, y), style.color())?;
        }
        Ok(())
    }

    fn estimate_text_size<S: BackendTextStyle>(
        &self,
        text: &str,
        _style: &S,
    ) -> Result<(u32, u32), DrawingErrorKind<Self::ErrorType>> {
        Ok((text.chars().count() as u32 * LETTER as u32, LETTER as u32 + 4))
    }
}

fn glyph(letter: char) -> [u8; 8] {
    let known = font8x8::BASIC_FONTS.get(letter).or_else(|| font8x8::LATIN_FONTS.get(letter));
    known.or_else(|| font8x8::BASIC_FONTS.get('?')).unwrap_or_default()
}
