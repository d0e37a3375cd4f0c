// Package product tests what a product's own repository is used for: it is made, locked,
// built and booted without a network.
package product
