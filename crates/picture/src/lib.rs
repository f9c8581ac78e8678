//! Pictures on any machine: a bitmap that can draw text without any font of the machine (the font comes with a crate), and lines
//! drawn with the letters of a terminal ([`terminal`], a feature).
#![forbid(unsafe_code)]

#[cfg(feature = "terminal")]
pub mod terminal;

use font8x8::UnicodeFonts;
use plotters::backend::BitMapBackend;
use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{BackendColor, BackendTextStyle, DrawingBackend, DrawingErrorKind};
use std::path::Path;

/// Dots in a glyph of the font, across and down.
const GLYPH: i32 = 8;

/// A bitmap with letters.
pub struct Lettered<'a> {
    bitmap: BitMapBackend<'a>,
    scale: i32,
}

impl<'a> Lettered<'a> {
    /// A bitmap of `size` that becomes the PNG file `path`. Each dot of the font is `scale` dots wide and high.
    pub fn new(path: &'a Path, size: (u32, u32), scale: u8) -> Self {
        Self { bitmap: BitMapBackend::new(path, size), scale: i32::from(scale) }
    }

    /// Columns and lines that a letter takes.
    fn letter(&self) -> i32 {
        GLYPH * self.scale
    }

    fn draw_letter(
        &mut self,
        letter: char,
        at: (i32, i32),
        color: BackendColor,
    ) -> Result<(), DrawingErrorKind<<Self as DrawingBackend>::ErrorType>> {
        for (row, dots) in glyph(letter).into_iter().enumerate() {
            for bit in (0..GLYPH).filter(|bit| dots >> bit & 1 == 1) {
                let corner = (at.0 + bit * self.scale, at.1 + row as i32 * self.scale);
                for dot in 0..self.scale * self.scale {
                    self.bitmap.draw_pixel((corner.0 + dot % self.scale, corner.1 + dot / self.scale), color)?;
                }
            }
        }
        Ok(())
    }
}

impl DrawingBackend for Lettered<'_> {
    type ErrorType = <BitMapBackend<'static> as DrawingBackend>::ErrorType;

    fn get_size(&self) -> (u32, u32) {
        self.bitmap.get_size()
    }

    fn ensure_prepared(&mut self) -> Result<(), DrawingErrorKind<Self::ErrorType>> {
        self.bitmap.ensure_prepared()
    }

    fn present(&mut self) -> Result<(), DrawingErrorKind<Self::ErrorType>> {
        self.bitmap.present()
    }

    fn draw_pixel(&mut self, point: (i32, i32), color: BackendColor) -> Result<(), DrawingErrorKind<Self::ErrorType>> {
        self.bitmap.draw_pixel(point, color)
    }

    fn draw_text<S: BackendTextStyle>(
        &mut self,
        text: &str,
        style: &S,
        at: (i32, i32),
    ) -> Result<(), DrawingErrorKind<Self::ErrorType>> {
        let side = self.letter();
        let width = text.chars().count() as i32 * side;
        let x = match style.anchor().h_pos {
            HPos::Left => at.0,
            HPos::Right => at.0 - width,
            HPos::Center => at.0 - width / 2,
        };
        let y = match style.anchor().v_pos {
            VPos::Top => at.1,
            VPos::Center => at.1 - side / 2,
            VPos::Bottom => at.1 - side,
        };
        for (column, letter) in text.chars().enumerate() {
            self.draw_letter(letter, (x + column as i32 * side, y), style.color())?;
        }
        Ok(())
    }

    fn estimate_text_size<S: BackendTextStyle>(
        &self,
        text: &str,
        _style: &S,
    ) -> Result<(u32, u32), DrawingErrorKind<Self::ErrorType>> {
        let side = self.letter() as u32;
        Ok((text.chars().count() as u32 * side, side + 4))
    }
}

fn glyph(letter: char) -> [u8; 8] {
    let known = font8x8::BASIC_FONTS.get(letter).or_else(|| font8x8::LATIN_FONTS.get(letter));
    known.or_else(|| font8x8::BASIC_FONTS.get('?')).unwrap_or_default()
}
