package xzenc

const (
	priceShift = 4 // prices are in 1/16 bit
	priceStep  = 4 // bits of a probability that make no difference for a price
	bitPriceOf = 1 << priceShift
)

// bitPrices are the prices of a bit, by its probability.
var bitPrices = makeBitPrices()

// makeBitPrices computes -log2 of the probabilities in integers, so that all machines give
// the same bits: each squaring of a number doubles its logarithm.
func makeBitPrices() (prices [1 << (probBits - priceStep)]uint8) {
	for i := range prices {
		p, log := uint32(i<<priceStep+1<<(priceStep-1)), uint32(0)
		for range priceShift {
			p, log = p*p, log*2
			for p >= 1<<16 {
				p, log = p>>1, log+1
			}
		}
		prices[i] = uint8(probBits<<priceShift - (bitPriceOf - 1) - log)
	}
	return prices
}

// price0 and price1 are the prices of a bit that is not set, and of one that is.
func price0(prob uint16) uint32 {
	return uint32(bitPrices[prob>>priceStep&(1<<(probBits-priceStep)-1)])
}
func price1(prob uint16) uint32 {
	return uint32(bitPrices[^prob>>priceStep&(1<<(probBits-priceStep)-1)])
}

// bitPrice is the price of a bit.
func bitPrice(prob uint16, bit uint32) uint32 {
	return uint32(bitPrices[(uint32(prob)^-bit)>>priceStep&(1<<(probBits-priceStep)-1)])
}

// treePrice is the price of a value of n bits from its highest bit on.
func treePrice(probs []uint16, n int, value uint32) uint32 {
	price, at := uint32(0), value|1<<uint(n)
	for ; at > 1; at >>= 1 {
		price += bitPrice(probs[at>>1], at&1)
	}
	return price
}

// reversePrice is the price of a value of n bits from its lowest bit on.
func reversePrice(probs []uint16, n int, value uint32) uint32 {
	price, at := uint32(0), uint32(1)
	for range n {
		bit := value & 1
		price += bitPrice(probs[at], bit)
		at, value = at<<1|bit, value>>1
	}
	return price
}

// literalPrice is the price of a byte behind a literal.
func literalPrice(probs *[literalSize]uint16, b byte) uint32 {
	price := uint32(0)
	for at := uint32(b) | 0x100; at > 1; at >>= 1 {
		price += bitPrice(probs[at>>1], at&1)
	}
	return price
}

// matchedPrice is the price of a byte behind a match that would have gone on with expected.
func matchedPrice(probs *[literalSize]uint16, b, expected byte) uint32 {
	price, offset, symbol, want := uint32(0), uint32(0x100), uint32(b)|0x100, uint32(expected)
	for symbol < 0x10000 {
		want <<= 1
		price += bitPrice(probs[(offset+want&offset+symbol>>8)%literalSize], symbol>>7&1)
		symbol <<= 1
		offset &= ^(want ^ symbol)
	}
	return price
}

// lengthPrices are the prices of lengths for each part of the position.
type lengthPrices [posMask + 1][maxMatch + 1]uint32

// fill takes the prices up to the longest length.
func (p *lengthPrices) fill(l *lengths, pos, longest int) {
	prices := &p[pos]
	low, mid := price0(l.choice), price1(l.choice)+price0(l.choice2)
	high := price1(l.choice) + price1(l.choice2)
	for n := minMatch; n <= longest; n++ {
		switch v := uint32(n - minMatch); {
		case v < 8:
			prices[n] = low + treePrice(l.low[pos][:], 3, v)
		case v < 16:
			prices[n] = mid + treePrice(l.mid[pos][:], 3, v-8)
		default:
			prices[n] = high + treePrice(l.high[:], 8, v-16)
		}
	}
}

// distPrices are the prices of distances.
type distPrices struct {
	slots [slotStates][64]uint32 // with the bits that have no model, without those of align
	near  [slotStates][fullModel]uint32
	align [1 << alignBits]uint32
}

// fill takes the prices of distances up to slots.
func (p *distPrices) fill(m *model, slots uint32) {
	for s := range slotStates {
		prices := &p.slots[s]
		for slot := range slots {
			prices[slot] = treePrice(m.slot[s][:], 6, slot)
			if slot >= firstDirect {
				prices[slot] += (slot>>1 - 1 - alignBits) << priceShift
			}
		}
	}
	for d := range uint32(fullModel) {
		slot, rest := slotOf(d), uint32(0)
		if slot >= firstModel {
			footerBits := slot>>1 - 1
			base := (2 | slot&1) << footerBits
			rest = reversePrice(m.special[base-slot:], int(footerBits), d-base)
		}
		for s := range slotStates {
			p.near[s][d] = p.slots[s][slot] + rest
		}
	}
}

func (p *distPrices) fillAlign(m *model) {
	for v := range p.align {
		p.align[v] = reversePrice(m.align[:], alignBits, uint32(v))
	}
}

// of returns the price of a distance.
func (p *distPrices) of(dist uint32, lengthState int) uint32 {
	if dist < fullModel {
		return p.near[lengthState][dist]
	}
	return p.slots[lengthState][slotOf(dist)] + p.align[dist&(1<<alignBits-1)]
}
